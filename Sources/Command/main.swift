print("advgrpo")
