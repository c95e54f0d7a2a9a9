// ImageModels
